"""Our own accounts: everything that the routes about people work with."""

from dataclasses import dataclass

from orderplane.gateway.http.address import Networks
from orderplane.gateway.identity.grants import Grants
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.throttle import LoginThrottle
from orderplane.gateway.identity.user_store import UserStore


@dataclass(frozen=True, slots=True)
class Identity:
    """See the module.

    Args:
        merchant: Whose accounts are meant where a request does not say.
    """

    merchant: str
    trusted_proxies: Networks
    people: UserStore
    logins: LoginStore
    passwords: Passwords
    ring: KeyRing
    throttle: LoginThrottle
    grants: Grants
