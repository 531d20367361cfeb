"""A model split at its frost line into a frozen part and a head, with the proof that the two parts are the model.

The folders, from the bottom up: `calls`, `python_state`, `recording` (one run), `parts` (frontier, frozen part, head),
`plan` (recordings become parts), `proof`. `attempts.py` goes through them from the top. See docs/splitting.md.
"""

from frostline.splitting.attempts import remembered_split as remembered_split
from frostline.splitting.attempts import split as split
from frostline.splitting.attempts import verify_once as verify_once
from frostline.splitting.calls.addresses import Frame as Frame
from frostline.splitting.calls.addresses import Point as Point
from frostline.splitting.calls.addresses import address_text as address_text
from frostline.splitting.calls.addresses import as_address as as_address
from frostline.splitting.calls.listener import wrapped as wrapped
from frostline.splitting.explanation import Explanation as Explanation
from frostline.splitting.faster_pass import FasterPart as FasterPart
from frostline.splitting.parts.head import copied_head as copied_head
from frostline.splitting.parts.head import model_of as model_of
from frostline.splitting.parts.head import runs_own_forward as runs_own_forward
from frostline.splitting.proof.verification import Verification as Verification
from frostline.splitting.python_state.kept_places import KeptPlaces as KeptPlaces
from frostline.splitting.split import Split as Split
from frostline.splitting.uncached import frozen_side_in_inference_mode as frozen_side_in_inference_mode
