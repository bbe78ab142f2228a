"""What everything that we create in Kubernetes carries, so that it can be known again when the database is lost.

A label's value can't be any text, so a label may be a slug with a hash; the annotation of the same name has the text itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage_spawners.launch.names import label_value

PREFIX = "moorage.dev/"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "moorage"
INSTALLATION = f"{PREFIX}managed-by"  # of namespaces: of several installations in a cluster each touches its own
WORKLOAD, GENERATION = f"{PREFIX}workload", f"{PREFIX}generation"
KIND, ROLE, OWNER, PROJECT = f"{PREFIX}kind", f"{PREFIX}role", f"{PREFIX}owner", f"{PREFIX}project"
GPU_TYPE = f"{PREFIX}gpu-type"  # of a pod that asks for one: the name that its owner knows, not the nodes' labels
OURS = f"{MANAGED_BY}={MANAGER},{WORKLOAD}"  # the selector of all pods of workloads


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Whose an object is. `kind`: of the workload; `role`: of this pod in it; `owner`: what never changes about its user."""

    workload_id: str
    generation: int
    kind: str
    role: str
    owner: str
    project: str

    def labels(self) -> dict[str, str]:
        return {MANAGED_BY: MANAGER, **{name: label_value(text) for name, text in self._texts().items()}}

    def annotations(self) -> dict[str, str]:
        return self._texts()

    def marked(self, each: Mapping[str, Any]) -> Mapping[str, Any]:
        """The object with our labels and annotations as they should be; itself when it has them."""
        metadata = each["metadata"]
        if Ownership.of(metadata) == self:
            return each
        labels = {**(metadata.get("labels") or {}), **self.labels()}
        annotations = {**(metadata.get("annotations") or {}), **self.annotations()}
        return {**each, "metadata": {**metadata, "labels": labels, "annotations": annotations}}

    def _texts(self) -> dict[str, str]:
        return {
            WORKLOAD: self.workload_id,
            GENERATION: str(self.generation),
            KIND: self.kind,
            ROLE: self.role,
            OWNER: self.owner,
            PROJECT: self.project,
        }

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> "Ownership | None":
        """What an object's metadata says; None when it is not ours. Where an annotation is missing the label has to do."""
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if labels.get(MANAGED_BY) != MANAGER or WORKLOAD not in labels:
            return None
        # An annotation that its label does not bear out was changed by somebody.
        texts = {
            name: annotations[name]
            if name in annotations and label_value(annotations[name]) == labels.get(name)
            else labels.get(name, "")
            for name in (WORKLOAD, GENERATION, KIND, ROLE, OWNER, PROJECT)
        }
        if not (texts[GENERATION].isascii() and texts[GENERATION].isdecimal()):
            return None
        return Ownership(
            workload_id=texts[WORKLOAD], generation=int(texts[GENERATION]), kind=texts[KIND],
            role=texts[ROLE], owner=texts[OWNER], project=texts[PROJECT],
        )  # fmt: skip


def names(metadata: Mapping[str, Any], workload_id: str) -> bool:
    """Whether a label or an annotation still says that the object is of this workload: somebody may have changed the others."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return labels.get(WORKLOAD) == label_value(workload_id) or annotations.get(WORKLOAD) == workload_id
