"""Links to the page of a map, for browsers, which cannot send a token.

A link names one map and ends after a while. Whoever has it may look at that map until then.
"""

import secrets

from itsdangerous import BadSignature, URLSafeTimedSerializer

from quakestream.storage import MissingObjectError, Store

KEY_PLACE = "serving/links.key"
"""Key of the signing secret below the service's root. Delete it to end all links."""


class Links:
    """Signs and reads links.

    Args:
        store: the service's root, where all processes find one secret.
        life_s: seconds that a link lives.
    """

    def __init__(self, store: Store, life_s: int) -> None:
        self._signer = URLSafeTimedSerializer(_secret(store), salt="quakestream-map")
        self._life_s = life_s

    def sign(self, run_id: str) -> str:
        signed = self._signer.dumps(run_id)
        return signed if isinstance(signed, str) else signed.decode()

    def run_of(self, signed: str) -> str | None:
        """The run that a link is for; None for a link that is wrong or has ended."""
        try:
            run_id = self._signer.loads(signed, max_age=self._life_s)
        except BadSignature:
            return None
        return run_id if isinstance(run_id, str) else None


def _secret(store: Store) -> bytes:
    try:
        return store.get(KEY_PLACE)
    except MissingObjectError:
        store.create(KEY_PLACE, secrets.token_bytes(32))
        return store.get(KEY_PLACE)
