"""New keys and tokens for old ones, while everything runs.

Each is done in the same order: the new one is written and used at once, the old one is still accepted, what was made with the old
one is made anew, and after a stated time the old one is gone. Cut off half-way, both are good, and doing it again ends it.
"""

import base64
import os
import secrets
import signal
import time
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import select

from moorage_service.clusters import tokens as cluster_tokens
from moorage_service.context import Context
from moorage_service.identity import keys
from moorage_service.recovery import cards
from moorage_service.store.tables import AuditRow, ClusterRow, SecretRow, SessionRow, Table, WorkloadRow
from moorage_spawners.launch import marks

POLL_S = 0.1
SEALED: tuple[tuple[type[Table], str], ...] = ((SecretRow, "sealed"), (SessionRow, "hub_token"), (ClusterRow, "sealed"))
ACTOR = "moorage admin"


class RotationError(Exception):
    """It could not be done, or not wholly; the text says what is good now, and what to do."""


def vault_key(context: Context, within_s: float) -> str:
    """A new key of the vault: all that is sealed in the store and in cards is sealed anew, and the old key opens nothing any more."""
    path = context.settings.secrets / "vault-key"
    before = keys.lines_of(path.read_bytes())
    keys.replace(path, [Fernet.generate_key(), *before])
    count = _seal_again(context)
    _wait_for_stragglers(within_s)
    count += _seal_again(context)  # what was on its way with the old key when the new one came
    keys.replace(path, keys.lines_of(path.read_bytes())[:1])
    said = f"The vault has a new key. {count} sealed values were sealed anew; the old key opens nothing any more."
    _audit(context, "rotate.vault-key", "vault-key", said)
    return f"{said} Copies that were made before still hold it, and what it opens: make a new copy."


def _seal_again(context: Context) -> int:
    """How many values were sealed with another key than the one in use."""
    count = 0
    with context.database.begin() as session:
        for model, column in SEALED:
            for row in session.scalars(select(model).with_for_update()):
                count += _seal_one(context, row, column)
    holder = cards.cards_of(context)
    for workload_id in holder.workload_ids():
        card = holder.read(workload_id, cards.NAME)
        if card is not None:
            for row in card.get("rows", {}).get(ClusterRow.__tablename__, []):
                if row.get("sealed") and not context.vault.is_sealed_with_the_key_in_use(
                    base64.b64decode(row["sealed"])
                ):
                    fresh = context.vault.seal_again(base64.b64decode(row["sealed"]))
                    row["sealed"] = base64.b64encode(fresh).decode()
            holder.keep(workload_id, cards.NAME, card)
    return count


def _seal_one(context: Context, row: Table, column: str) -> int:
    sealed = getattr(row, column)
    if sealed is None or context.vault.is_sealed_with_the_key_in_use(sealed):
        return 0
    try:
        setattr(row, column, context.vault.seal_again(sealed))
    except InvalidToken:
        return 0  # of a key that was lost before: it opens for nobody, as it did not before
    return 1


def hub_to_service(context: Context, within_s: float) -> str:
    """A new token of the hub for the service. Both read it at each use; requests that are under way come in with the old one."""
    path = context.settings.secrets / "hub-to-service"
    keys.replace(path, [secrets.token_hex(32).encode(), *keys.lines_of(path.read_bytes())])
    _wait_for_stragglers(within_s)
    keys.replace(path, keys.lines_of(path.read_bytes())[:1])
    said = "The hub has a new token for the service; the old one is dead."
    _audit(context, "rotate.hub-to-service", "hub-to-service", said)
    return said


def service_to_hub(context: Context, within_s: float) -> str:
    """A new token of the service for the hub, which learns of it as it starts: it is started anew, and notebooks go on meanwhile."""
    path = context.settings.secrets / "service-to-hub"
    keys.replace(path, [secrets.token_hex(32).encode(), *keys.lines_of(path.read_bytes())])
    hub = marks.living(context.settings.state).get("hub")
    if hub is None:
        said = "The service has a new token for the hub. The hub is not running: the old one ends as it starts."
    else:
        os.kill(hub, signal.SIGTERM)  # `up` starts it again
        if not _until(lambda: len(keys.lines_of(path.read_bytes())) == 1, within_s):
            raise RotationError(
                f"The hub has not started again within {within_s:.0f} s. The new token is in its file; the old one ends as the hub starts. "
                "See hub.log in the logs folder."
            )
        said = "The service has a new token for the hub, which was started again; the old one is dead."
    _audit(context, "rotate.service-to-hub", "service-to-hub", said)
    return said


def workload_token(context: Context, within_s: float, *, workload_id: str) -> str:
    """A new token for a cluster that runs. Raises RotationError for what can't be given another while it runs."""
    with context.database.begin() as session:
        workload = session.get(WorkloadRow, workload_id)
        if workload is None or workload.ended_at is not None:
            raise RotationError(f"There is no live workload {workload_id!r}. `moorage workloads list` names them.")
        row = session.get(ClusterRow, workload_id)
        if row is None:
            raise RotationError(
                f"{workload_id} is a {workload.kind}: its token lies in the environment of its process, and ends with it. Stop it, and "
                "start it again: the old token is dead as soon as it has ended."
            )
        cluster_tokens.renew(session, context, workload, row)
    cards.keep(context, workload_id)
    taken = _until(lambda: not _renewing(context, workload_id), within_s)
    cards.keep(context, workload_id)
    if not taken:
        raise RotationError(
            f"The agent of {workload_id} has not taken its new token within {within_s:.0f} s: it is away, or of an earlier version of "
            "Moorage. The old one stays good until it has, or until the cluster ends."
        )
    said = f"The cluster {workload_id} has a new token; the old one is dead."
    _audit(context, "rotate.token", workload_id, said)
    return said


def _renewing(context: Context, workload_id: str) -> bool:
    with context.database.read() as session:
        workload = session.get(WorkloadRow, workload_id)
        return workload is not None and workload.ended_at is None and bool(workload.details.get(cluster_tokens.OLD))


def _wait_for_stragglers(seconds: float) -> None:
    time.sleep(seconds)


def _until(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _audit(context: Context, action: str, target: str, said: str) -> None:
    with context.database.begin() as session:
        session.add(AuditRow(at=context.clock(), actor=ACTOR, action=action, target=target, why=said))
