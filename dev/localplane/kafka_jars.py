"""Apache Kafka's jars: from Maven Central, by Maven where it is here, else by jgo."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from orderplane.dev.localplane.places import cache_dir, only_one
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import run_logged, wheel_tool

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
    """Fetch the broker once; answers a Java class path.

    Raises:
        ToolMissing: neither way works; the message has the end of its log.
    """
    place = cache_dir() / f"kafka-{KAFKA}"
    with only_one("kafka"):
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
