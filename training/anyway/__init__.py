"""Any-way episodes (arXiv:2401.05097): one head for scales of two, three, four or five grades.

An episode is an event with a scale of its own and a few labels per grade. Outputs of the head have
no fixed meaning: an assignment gives each grade an output of its own, and as many assignments as
fit are used at once. The paper has no code; this is written from its text.
"""
