"""CRDs of other projects whose objects are in our overlays, from the sources that dev/tools/schemas pins."""

from pathlib import Path

from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import go_sources

_FILES = {
    "github.com/cert-manager/cert-manager": (
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ),
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}


async def foreign_crds(progress: Progress) -> list[Path]:
    """The files with these CRDs, one each.

    Raises:
        ToolMissing: the sources cannot be fetched; the message says why.
    """
    found = []
    for module, files in _FILES.items():
        sources = await go_sources("schemas", module, progress)
        found += [sources / file for file in files]
    return found
