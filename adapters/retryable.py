"""What may be tried again: one list for each dependency, for every process.

The gateway answers what is listed here with 503 and Retry-After, the webhook asks for a repeat, and the
operator and the workers wait in sight: with a log line, a metric or a condition. Everything else is a mistake
of ours or of the caller, and is not tried again by itself.

The calls to providers (payments, carriers, SMS, mail) are mapped by their adapters to `Transient` and
`Refused`, because only the adapter of a provider can read its answers.
"""

from aiokafka.errors import KafkaError

from orderplane.crds.api_errors import Overloaded, Unauthorized, Unavailable
from orderplane.ledgers.postgres.session import RETRYABLE

POSTGRES = RETRYABLE

KAFKA = (KafkaError, OSError)
"""aiokafka lets some errors of sockets through as they are; TimeoutError is an OSError."""

KUBERNETES = (Unavailable, Overloaded, Unauthorized)
