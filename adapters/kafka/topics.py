"""Make the topics that are missing."""

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, for_code

from orderplane.events.dead_letters import DEAD_LETTERS
from orderplane.events.types import EventType

PARTITIONS = 8
_SETTINGS = {
    # The audit compares the order in which the broker saw events, not in which we say we sent them.
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": "604800000",
}
# One partition, so that an offset is a dead letter's name. Somebody has to look at them: kept for 30 days.
_DEAD_SETTINGS = {**_SETTINGS, "retention.ms": "2592000000"}
_TIMEOUT_MS = 10_000


async def ensure_topics(bootstrap: str, *, replication: int = 1) -> list[str]:
    """Create every topic of ours that does not exist; answers those that were made.

    Several may do this at once. Topics that exist are left as they are.

    Args:
        bootstrap: Brokers to ask first, `host:port` with commas between.
        replication: How many brokers keep each event.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached or refuse.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        known = set(await admin.list_topics())
        wanted = [
            *(NewTopic(type_.value, PARTITIONS, replication, topic_configs=_SETTINGS) for type_ in EventType),
            NewTopic(DEAD_LETTERS, 1, replication, topic_configs=_DEAD_SETTINGS),
        ]
        missing = [topic for topic in wanted if topic.name not in known]
        if not missing:
            return []
        answer = await admin.create_topics(missing, timeout_ms=_TIMEOUT_MS)
    except TimeoutError as problem:
        raise KafkaTimeoutError(f"no answer from {bootstrap} while topics were being made") from problem
    finally:
        await admin.close()
    made = []
    for topic, code, *more in answer.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(topic)
        elif error is not TopicAlreadyExistsError:
            raise _refusal(error, topic, more)
    return made


def _refusal(error: type[KafkaError], topic: str, more: list[str | None]) -> KafkaError:
    told = more[0] if more and more[0] else "no reason given"
    return error(f"the brokers would not make topic {topic}: {told}")
