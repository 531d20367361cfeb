"""Exams: they score a pillar of the library, or any rival, against ground truth decided beforehand."""
