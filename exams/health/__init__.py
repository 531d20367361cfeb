"""The health exam: sick and healthy trainings, ground truth, judges and scores. Run `python -m exams.health`."""
