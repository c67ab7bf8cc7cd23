"""What would make passthrough fail, by rules that know each failure of this field by its signs, and its fix.

Pure: facts go in, findings come out. `facts` is what was seen, each other module a group of rules, `diagnosis` all of
them together and the plan that fixes what can be fixed.
"""
