"""What `checkup` and `heal` share: see a copy in training, suspect, undo one factor at a time, compare."""

from frostline.recipes.examination.batching import Batch as Batch
from frostline.recipes.examination.batching import as_batches as as_batches
from frostline.recipes.examination.batching import check_given as check_given
from frostline.recipes.examination.batching import held_out as held_out
from frostline.recipes.examination.batching import merged as merged
from frostline.recipes.examination.batching import num_epochs as num_epochs
from frostline.recipes.examination.batching import usual_rows as usual_rows
from frostline.recipes.examination.examining import Examination as Examination
from frostline.recipes.examination.examining import Suspicion as Suspicion
from frostline.recipes.examination.examining import Trial as Trial
from frostline.recipes.examination.examining import examine as examine
from frostline.recipes.examination.proving import counts as counts
from frostline.recipes.examination.proving import prove as prove
from frostline.recipes.examination.telling import told as told
from frostline.recipes.examination.treatments import BATCHNORM as BATCHNORM
