"""Users of a merchant for tests of traffic, and what a gateway has counted."""

from prometheus_client.parser import text_string_to_metric_families

from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import SCOPES_OF, Principal, Role

from ...support.plane import Merchant
from ..conftest import Gateway, token_of


async def headers_of(merchant: Merchant, name: str, role: Role = Role.MERCHANT) -> dict[str, str]:
    """What each request of a new user carries."""
    people = UserStore(merchant.pool)
    email = f"{name}@example.test"
    await people.add(merchant.name, name, email=email, password_hash="", role=role.value)
    token = token_of(merchant.plane, Principal(merchant.name, name, role, SCOPES_OF[role]))
    return {"Authorization": f"Bearer {token}"}


async def metric(gateway: Gateway, name: str, **labels: str) -> float:
    text = (await gateway.http.get(f"{gateway.metrics_url}/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next((s.value for s in samples if s.name == name and s.labels == labels), 0.0)
