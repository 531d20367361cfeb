"""Splits a model at its frost line, and proves that the two parts are the model."""

from frostline.splitting.attempts import remembered_split as remembered_split
from frostline.splitting.attempts import split as split
from frostline.splitting.explanation import Explanation as Explanation
from frostline.splitting.split import Split as Split
from frostline.splitting.split import verify_once as verify_once
from frostline.splitting.uncached import frozen_side_in_inference_mode as frozen_side_in_inference_mode
from frostline.splitting.verification import Verification as Verification
