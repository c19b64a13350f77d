"""Apache Kafka: the jars, and one KRaft node as a component."""

import asyncio
import contextlib
import hashlib
import secrets
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from orderplane.dev.localplane.paths import cache_dir, cache_lock
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.supervisor import Component, Supervisor
from orderplane.dev.localplane.tools import find_java, run_logged, wheel_tool

KafkaCommand = tuple[str, ...]
"""`java` with its options; a class name and arguments are appended."""

_FASTER_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


async def kafka_program(progress: Progress) -> KafkaCommand:
    """Java with Kafka's classes.

    Raises:
        ToolMissing: one of them is missing and cannot be fetched.
    """
    java, classpath = await find_java(progress), await kafka_classpath(progress)
    archive = await _class_archive(java, classpath, progress)
    return (str(java), *_FASTER_START, f"-XX:SharedArchiveFile={archive}", "-cp", classpath)


def kafka(program: KafkaCommand, state: Path, port: int, controller_port: int) -> Component:
    """One KRaft node with formatted storage. Topics are never created automatically."""
    folder = state / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "server.properties"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.segment.bytes": "16777216",
        # There are no replicas, so an acknowledged record has to be on disk.
        "log.flush.interval.messages": "1",
    }
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    id_file = folder / "cluster-id"
    if not id_file.exists():
        # 16 bytes in base64url. A leading dash would be parsed as an option.
        id_file.write_text("o" + secrets.token_urlsafe(16)[1:21] + "A")
    subprocess.run(
        [*program, "kafka.tools.StorageTool", "format", "--standalone", "-t", id_file.read_text(),
         "--ignore-formatted", "-c", config],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    log4j = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    command = (program[0], "-Xms256m", "-Xmx512m", log4j, *program[1:], "kafka.Kafka", str(config))
    return Component("kafka", command, lambda: _listens(port), stop_timeout=10, start_timeout=90)


async def _class_archive(java: Path, classpath: str, progress: Progress) -> Path:
    """A class data sharing (CDS) archive of Kafka's classes: with it a broker starts in half the time.

    Java writes it when a program ends, so a broker is started and stopped for it, once.
    """
    archive = _archive_of(java, classpath)
    with cache_lock("kafka-classes"):
        if not archive.exists():
            with (
                progress.step("Making an archive of Kafka's classes (once, about 6 s)"),
                TemporaryDirectory(dir=cache_dir()) as folder,
            ):
                made = Path(folder) / archive.name
                program = (str(java), *_FASTER_START, f"-XX:ArchiveClassesAtExit={made}", "-cp", classpath)
                broker = await asyncio.to_thread(kafka, program, Path(folder), free_port(), free_port())
                async with Supervisor(Path(folder) / "logs") as supervisor:
                    await supervisor.start(broker)
                # A Java that cannot write archives ignores an empty one.
                made.touch()
                made.replace(archive)
    return archive


def _archive_of(java: Path, classpath: str) -> Path:
    """The name depends on the Java and the Kafka that the archive is valid for."""
    installed = java.resolve()
    known_by = f"{installed} {installed.stat().st_mtime_ns} {classpath}"
    return cache_dir() / f"kafka-classes-{hashlib.sha256(known_by.encode()).hexdigest()[:12]}.jsa"


async def _listens(port: int) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


KAFKA = "4.1.1"
_COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA}"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.orderplane</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version>
  </dependency></dependencies>
</project>
"""


async def kafka_classpath(progress: Progress) -> str:
    """Fetch Kafka's jars once; returns a Java class path.

    Raises:
        ToolMissing: neither Maven nor jgo could fetch them; the message holds the end of the log.
    """
    place = cache_dir() / f"kafka-{KAFKA}"
    with cache_lock("kafka"):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            with progress.step(f"Fetching Kafka {KAFKA} (once, about 20 s)") as step:
                log = cache_dir() / "kafka-jars.log"
                if mvn := shutil.which("mvn"):
                    with TemporaryDirectory() as folder:
                        pom = Path(folder) / "pom.xml"
                        pom.write_text(_POM)
                        command = [
                            mvn, "-B", "-f", pom, "dependency:copy-dependencies",
                            "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}",
                        ]  # fmt: skip
                        await run_logged(command, log, step)
                else:
                    bin_dir = await wheel_tool("jars", progress)
                    script = (
                        "import jgo, pathlib, shutil, sys\n"
                        f"environment = jgo.build({_COORDINATES!r})\n"
                        "for jar in pathlib.Path(environment.path).rglob('*.jar'):\n"
                        "    shutil.copy(jar, sys.argv[1])\n"
                    )
                    (place / "jars").mkdir()
                    await run_logged([bin_dir / "python", "-c", script, place / "jars"], log, step)
            (place / "complete").touch()
    return f"{place / 'jars'}/*"
