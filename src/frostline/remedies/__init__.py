"""Changes to a model in place, with an exact undo: activations, normalisation, clipping, initialisation, scaling."""

from frostline.remedies.activation_price import ActivationPrice as ActivationPrice
from frostline.remedies.activation_price import PriceTable as PriceTable
from frostline.remedies.activation_price import price_activations as price_activations
from frostline.remedies.activations import swap_activations as swap_activations
from frostline.remedies.batchnorm.fold import FoldCertificate as FoldCertificate
from frostline.remedies.batchnorm.fold import fold_batchnorm as fold_batchnorm
from frostline.remedies.batchnorm.insert import insert_batchnorm as insert_batchnorm
from frostline.remedies.batchnorm.reestimate import reestimate_batchnorm as reestimate_batchnorm
from frostline.remedies.clipping import Clip as Clip
from frostline.remedies.clipping import Clipped as Clipped
from frostline.remedies.clipping import clip_adaptive as clip_adaptive
from frostline.remedies.clipping import clip_by_norm as clip_by_norm
from frostline.remedies.clipping import clip_by_percentile as clip_by_percentile
from frostline.remedies.clipping import clip_by_value as clip_by_value
from frostline.remedies.clipping import clip_by_zscore as clip_by_zscore
from frostline.remedies.initialization import initialize as initialize
from frostline.remedies.initialization import lsuv as lsuv
from frostline.remedies.scaling import rescale_outputs as rescale_outputs
from frostline.remedies.scaling import standardize_inputs as standardize_inputs
