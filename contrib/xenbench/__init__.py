"""`contrib/bench`: what cede costs beside virsh and xl, measured on one host, in rounds that take turns.

Read `works` first: what is measured, and the targets. `courses` says by which commands, `runner` carries them out in
dom0, `figures` makes medians and ratios of what was measured, `tables` shows them. `on_lab` and `here` are the two
hosts. It uses the standard library only, as the lab does.
"""
