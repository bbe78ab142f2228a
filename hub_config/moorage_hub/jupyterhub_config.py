"""What `jupyterhub --config` reads."""

from moorage_hub import database
from moorage_hub.install import install
from moorage_hub.old_tokens import end_old_tokens
from moorage_hub.settings import load
from moorage_hub.state import default_state, prepare_state

state = default_state()
prepare_state(state)
end_old_tokens(state, state / "database" / "hub.sqlite")
# The loader's own: what is put into the running application's configuration by hand is not always heard.
install(get_config(), load(state))  # type: ignore[name-defined]  # noqa: F821
database.prepare(state / "database" / "hub.sqlite")
database.listen(state / "database" / "hub.sqlite")
