"""Stop new orders in a whole cluster, and allow them again: by the binding of a policy in `manifests/`."""

from contextlib import suppress

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import NotFound

_POLICY = "orderplane-drain"
_API = "/apis/admissionregistration.k8s.io/v1"
_BINDING = f"{_API}/validatingadmissionpolicybindings/{_POLICY}"
_LABELS = {
    "app.kubernetes.io/name": "orderplane",
    "app.kubernetes.io/component": "admission-policy",
    "app.kubernetes.io/part-of": "orderplane",
    "app.kubernetes.io/managed-by": "orderplane",
}


class PolicyMissing(Exception):  # noqa: N818
    """The policy is not installed, so a binding of it would stop nothing; the message says what to run."""


async def stop_new_orders(api: ApiClient) -> None:
    """Have the API server refuse every new Order, and every new Reservation without an order.

    It begins to do so within moments. What is under way goes on.

    Raises:
        PolicyMissing: there is nothing to bind.
        ApiError: the API server refused it.
    """
    try:
        await api.read_path(f"{_API}/validatingadmissionpolicies/{_POLICY}")
    except NotFound:
        raise PolicyMissing(
            f"The ValidatingAdmissionPolicy {_POLICY} is not installed. "
            "Run: orderplane crds install --with-policies"
        ) from None
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": _POLICY, "labels": _LABELS},
        "spec": {"policyName": _POLICY, "validationActions": ["Deny"]},
    }
    await api.apply_path(_BINDING, binding, manager="orderplane-drain")


async def allow_new_orders(api: ApiClient) -> None:
    """Undo `stop_new_orders`."""
    with suppress(NotFound):
        await api.delete_path(_BINDING)
