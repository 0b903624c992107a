"""A small invented world: stories, facts, sentences in two languages and drawn scenes.

Everything here is written by rules from the word lists in these files and a random number generator,
so that the tasks of demo/tasks and the training data of the small models need no outside text.
make_tasks.py and the training scripts use it; it uses nothing of theirs.
"""
