"""Secrets of webhook endpoints as the database has them: encrypted, by a key that it does not have.

They cannot be stored as hashes, because requests are signed by them.
"""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SecretUnreadable(Exception):  # noqa: N818
    """A secret was encrypted by none of our keys. The message names no secret."""


class EndpointSecrets:
    """Encrypts by the first key, and decrypts by any (Fernet: AES-128-CBC with HMAC-SHA256).

    Args:
        keys: With commas between, the newest first. Each is url-safe base64 of 32 bytes.

    Raises:
        ValueError: one of them is no key; the message does not repeat it.
    """

    def __init__(self, keys: str) -> None:
        self._use(keys)

    async def use_keys(self, keys: str) -> None:
        """Change over to other keys. Raises as the constructor; the last ones stay then."""
        self._use(keys)

    def _use(self, keys: str) -> None:
        try:
            fernets = [Fernet(key.strip()) for key in keys.split(",")]
        except ValueError:
            raise ValueError("give keys of 32 random bytes in url-safe base64, with commas between") from None
        self._newest, self._all = fernets[0], MultiFernet(fernets)

    def encrypt(self, secret: str) -> str:
        """The secret as it is stored."""
        return self._newest.encrypt(secret.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """The secret.

        Raises:
            SecretUnreadable: it was encrypted by another key, or changed.
        """
        try:
            return self._all.decrypt(stored.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable(
                "the secret of an endpoint cannot be decrypted: add its key to ORDERPLANE_ENDPOINT_KEYS"
            ) from None

    def renewed(self, stored: str) -> str | None:
        """The secret, encrypted by the newest key; None if it is already.

        Raises:
            SecretUnreadable: as `decrypt`.
        """
        try:
            self._newest.decrypt(stored.encode())
        except InvalidToken:
            return self.encrypt(self.decrypt(stored))
        return None


def new_key() -> str:
    """A key."""
    return Fernet.generate_key().decode()
