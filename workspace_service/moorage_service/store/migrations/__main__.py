"""`python -m moorage_service.store.migrations "what it does"`: writes the next step, to be read before it is committed."""

import sys

from sqlalchemy import create_engine

from moorage_service.store import migrations


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit("Say what the step does: python -m moorage_service.store.migrations 'add the quota of homes'")
    with create_engine("sqlite://").begin() as connection:
        if list(migrations.FOLDER.glob("versions/0*.py")):
            migrations.upgrade(connection)
        path = migrations.new_step(connection, sys.argv[1])
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
