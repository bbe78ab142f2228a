"""What `jupyterhub --config` reads."""

from traitlets.config import get_config

from moorage_hub.install import install
from moorage_hub.settings import load
from moorage_hub.state import default_state, prepare_state

state = default_state()
prepare_state(state)
install(get_config(), load(state))
