"""Fault drills: break a real server in every way an operator has to fear, and count what its callers get.

``PYTHONPATH=tests python -m drills`` prints a JSON table; ``tests/torchserve/test_drills.py`` runs a short form.
"""
