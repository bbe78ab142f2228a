"""The hub's own configuration, with the stand-in spawner in place of the real one."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the hub runs isolated from the working folder

from bench.stand_in import StandInSpawner
from moorage_hub import database
from moorage_hub.install import install
from moorage_hub.settings import load
from moorage_hub.state import default_state

c = get_config()  # type: ignore[name-defined]  # noqa: F821
settings = load(default_state())
install(c, settings)
c.JupyterHub.spawner_class = StandInSpawner
c.StandInSpawner.update(c.ProjectLocalSpawner)
database.prepare(settings.sqlalchemy_url)
database.listen(settings.sqlalchemy_url)
