"""What `jupyterhub --config` reads."""

from moorage_hub import database
from moorage_hub.install import install
from moorage_hub.old_tokens import end_old_tokens
from moorage_hub.settings import load
from moorage_hub.state import default_state, prepare_state

state = default_state()
prepare_state(state)
settings = load(state)
end_old_tokens(state, settings.sqlalchemy_url)
# The loader's own: what is put into the running application's configuration by hand is not always heard.
install(get_config(), settings)  # type: ignore[name-defined]  # noqa: F821
database.prepare(settings.sqlalchemy_url)
database.listen(settings.sqlalchemy_url)
