"""Limits that rules and experiments share: when a network learns, when a training is long enough, how large rows are.

All were tuned on the tuning part of the exam (`exams/health`, docs/exam.md). Limits of one rule alone stand in its
file; what a treatment must gain, in `diagnosis/experiments/verdict.py`.
"""

LEARNS = 0.1  # of the loss of the constant-prediction baseline: a network that is lower by so much learns
STEPS_TO_LEARN = 45  # after which a network that learns nothing is stuck: the exam's healthy ones save more by then
ENOUGH_EPOCHS = 2.5  # about three: in the first ones a larger rate is ahead in healthy networks as well
SMALL_STEP = 6e-4  # of a layer's weights; 1e-3 is usual. Below it less is asked of a trial that takes larger steps
OUTLYING = 10.0  # times the usual size of a row: another unit, not a tail
