"""What `checkup` and `heal` share: see a copy in training, suspect, undo one factor at a time, compare."""

from frostline.diagnosis.experiments.batches import Batch as Batch
from frostline.diagnosis.experiments.batches import as_batches as as_batches
from frostline.diagnosis.experiments.batches import check_given as check_given
from frostline.diagnosis.experiments.batches import held_out as held_out
from frostline.diagnosis.experiments.batches import merged as merged
from frostline.diagnosis.experiments.batches import num_epochs as num_epochs
from frostline.diagnosis.experiments.batches import takes_fewer_rows as takes_fewer_rows
from frostline.diagnosis.experiments.batches import three_parts as three_parts
from frostline.diagnosis.experiments.batches import usual_rows as usual_rows
from frostline.diagnosis.experiments.budget import budget_for as budget_for
from frostline.diagnosis.experiments.examination import Examination as Examination
from frostline.diagnosis.experiments.examination import Suspicion as Suspicion
from frostline.diagnosis.experiments.examination import Trial as Trial
from frostline.diagnosis.experiments.examination import examine as examine
from frostline.diagnosis.experiments.own_step import as_stepped as as_stepped
from frostline.diagnosis.experiments.own_step import named_as_given as named_as_given
from frostline.diagnosis.experiments.report import reported as reported
from frostline.diagnosis.experiments.treatments import BATCHNORM as BATCHNORM
from frostline.diagnosis.experiments.trial import usual_optimizer as usual_optimizer
from frostline.diagnosis.experiments.verdict import counts as counts
from frostline.diagnosis.experiments.verdict import prove as prove
