"""What can go wrong with the node: a part that this machine lacks, or a part that did not do what it should."""


class NodeError(Exception):
    """The node could not be brought up, or asked for something, or taken down."""


class MissingPart(NodeError):
    """This machine can't have a node: names what it lacks, and what to do about it. Tests are skipped with this sentence."""

    def __init__(self, part: str, remedy: str) -> None:
        super().__init__(f"{part} is missing here. {remedy}")
        self.part = part
        self.remedy = remedy
