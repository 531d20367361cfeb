"""Trains the part above the frost line, from cached features or from plain inputs."""

from frostline.training.checkpoints import has_checkpoint as has_checkpoint
from frostline.training.checkpoints import put_back as put_back
from frostline.training.checkpoints import settings_of as settings_of
from frostline.training.checkpoints import trained_state as trained_state
from frostline.training.feeding import DatasetBatches as DatasetBatches
from frostline.training.feeding import check_targets as check_targets
from frostline.training.loop import Settings as Settings
from frostline.training.loop import Watch as Watch
from frostline.training.loop import run_training as run_training
from frostline.training.losses import make_loss as make_loss
from frostline.training.losses import num_counted as num_counted
from frostline.training.losses import output_of as output_of
from frostline.training.machine import log_figures as log_figures
from frostline.training.machine import make_fabric as make_fabric
from frostline.training.metrics import make_metrics as make_metrics
from frostline.training.settings import check_settings as check_settings
from frostline.training.settings import describe_callable as describe_callable
from frostline.training.settings import describe_frozen as describe_frozen
from frostline.training.settings import describe_model as describe_model
from frostline.training.settings import describe_structure as describe_structure
from frostline.training.settings import describe_values as describe_values
from frostline.training.settings import is_stateless as is_stateless
from frostline.training.stepping import check_closure as check_closure
from frostline.training.stepping import clipping_first as clipping_first
from frostline.training.stepping import make_optimizer as make_optimizer
from frostline.training.stepping import make_scheduler as make_scheduler
