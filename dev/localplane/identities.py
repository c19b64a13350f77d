"""Who may talk to a plane's API server, and by what tokens it knows them."""

import secrets
from collections.abc import Mapping

IDENTITIES: dict[str, tuple[str, str | None]] = {
    # The kubeconfig's name: the user's name, and its group.
    "admin": ("admin", "system:masters"),
    "operator": ("orderplane:operator", None),
    "gateway": ("orderplane:gateway", None),
    "webhook": ("orderplane:webhook", None),
    "audit": ("orderplane:audit", None),
    "merchant": ("merchant-demo", "orderplane:merchants"),
    "controller-manager": ("system:kube-controller-manager", None),
}


def draw_tokens() -> dict[str, str]:
    """A new token for each identity."""
    return {identity: secrets.token_urlsafe(32) for identity in IDENTITIES}


def token_file(tokens: Mapping[str, str]) -> str:
    """What the API server reads: token, user, uid and group of each.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
    """
    lines = []
    for identity, token in tokens.items():
        user, group = IDENTITIES[identity]
        lines.append(",".join([token, user, identity, *([group] if group else [])]))
    return "\n".join(lines) + "\n"
