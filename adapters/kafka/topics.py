"""Make the topics that are missing."""

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orderplane.events.types import EventType

PARTITIONS = 8
_SETTINGS = {
    # The audit compares the order in which the broker saw events, not in which we say we sent them.
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": "604800000",
}


async def ensure_topics(bootstrap: str, *, replication: int = 1) -> list[str]:
    """Create every topic of ours that does not exist; answers those that were made.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached or refuse.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    await admin.start()
    try:
        known = set(await admin.list_topics())
        missing = [
            NewTopic(type_.value, PARTITIONS, replication, topic_configs=_SETTINGS)
            for type_ in EventType
            if type_.value not in known
        ]
        if missing:
            await admin.create_topics(missing, timeout_ms=10_000)
        return [topic.name for topic in missing]
    finally:
        await admin.close()
