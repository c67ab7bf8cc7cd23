"""What would make passthrough fail, by rules that know each failure of this field by its signs, and its fix.

Pure: facts go in, findings come out. `facts` is what was collected, each other module is a group of rules, `diagnosis`
applies all of them and makes the plan that fixes what can be fixed.
"""
