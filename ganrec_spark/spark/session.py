"""The Spark session with the lake's catalog; works under spark-submit and plain python alike."""

import hashlib
import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyspark
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from ganrec_spark import blas
from ganrec_spark.config.load import from_environment
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError, LakeError
from ganrec_spark.lake.files import PLACE, is_remote, lake_root, make_root
from ganrec_spark.lake.iceberg import reason
from ganrec_spark.spark.plans import KEPT_CLASSES
from ganrec_spark.spark.submit import SECRET_WORDS, is_secret, java_options, stage_properties

# Of the packages that config/sections.py pins.
_SHA256 = {
    "iceberg-spark-runtime-4.0_2.13-1.11.0": "63c3b812549dc232c1920865ff42436df8604a9bbacd693930985c06bd97e6dc",
    "sqlite-jdbc-3.53.1.0": "28aceecfcc9535645bd19fa988385703c7b89982c1506a6855f5942b4032eca6",
    "postgresql-42.7.8": "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7",
    # Of stream.packages.
    "spark-sql-kafka-0-10_2.13-4.0.0": "33a3b8b04df4a2e43c9d5bf8ca5972936a1ac662f2714e014d00ef6f27468bf3",
    "spark-token-provider-kafka-0-10_2.13-4.0.0": "f2be3b76f9e6cbe63379d4e4e0dc14f59dbf056ae2ad16ff15ac108004c86767",
    "kafka-clients-3.9.0": "15c1e137f2c2c94398e27abc4060a03b6bde10bf9fac15e8f70c02320b202f18",
    "commons-pool2-2.12.0": "6d3bd18df8410f3e31b031aca582cc109342358a62a2759ebd0c4cdf30d06f8b",
    # Of conf/s3.yaml.
    "iceberg-aws-bundle-1.11.0": "38f01da7e96850cdd05e6616d758b77b43314b712a8808e3f9a824d56976162f",
    "hadoop-aws-3.4.1": "01334a07e179cae2b7e251f24857f11e3759108c9d6a79dcbe362a4295227da2",
    "s3-transfer-manager-2.44.4": "dbcad736b19f6eb8471f9edf027d9fffe994228f25f415894efd01fd80cb6c02",
}
_TASK_ATTEMPTS = 4  # Spark's default, spark.task.maxFailures, which local masters do not heed
_FINDS = ("spark.hadoop.", "spark.jars.")
_EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"


def catalog_properties(config: Config) -> dict[str, str]:
    """Return the Spark properties of the Iceberg catalog; `{root}` and `${VARIABLE}` are filled in."""
    prefix = f"spark.sql.catalog.{config.lake.catalog}"
    properties = {prefix: "org.apache.iceberg.spark.SparkCatalog", **_fresh(prefix)}
    for key, value in config.lake.properties.items():
        if "sqlite" in value and "{root}" in value and is_remote(config.lake.root):
            raise ConfigError(
                f"lake.properties.{key}: expected a catalog that lies elsewhere than lake.root {config.lake.root}, "
                f"found '{value}': SQLite needs a disk; name a path of this machine, or a server (conf/s3.yaml)"
            )
        filled = from_environment(f"lake.properties.{key}", value)
        properties[f"{prefix}.{key}"] = filled.replace("{root}", lake_root(config))
    return properties


def _fresh(prefix: str) -> dict[str, str]:
    """Return what lets a session see the commits of others: the cache keeps a table for as long as somebody asks."""
    return {f"{prefix}.cache-enabled": "false"}


def jar_properties(config: Config) -> dict[str, str]:
    """Return how Spark finds Iceberg: spark.jars, else jars installed beside Spark, else Maven coordinates."""
    if config.spark.jars:
        return {"spark.jars": ",".join(config.spark.jars)}
    missing = [package for package in config.spark.packages if not _is_installed(package)]
    return {"spark.jars.packages": ",".join(missing)} if missing else {}


def build_session(
    config: Config, app_name: str = "ganrec", profile: str = "sql", makes_lake: bool = True
) -> SparkSession:
    """Start (or return) the session of a stage's profile; without `makes_lake` no folder of the lake is made.

    Raises ConfigError where a file to ship is missing, LakeError where Iceberg's classes cannot be loaded,
    StoreError where the lake's store does not answer.
    """
    # PySpark takes times without a zone for local ones; ours are UTC.
    os.environ["TZ"] = "UTC"
    time.tzset()
    if config.spark.python:
        os.environ["PYSPARK_PYTHON"] = config.spark.python
    # Else workers take the first python3 of the PATH, which need not have our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted:
        _require_files("spark.py_files", config.spark.py_files)
        _require_files("spark.archives", config.spark.archives)
    _quieten()
    master = _master(config, submitted)
    if makes_lake:
        make_root(lake_root(config))
    catalog, own = catalog_properties(config), stage_properties(config, profile)
    secrets = {key: from_environment(f"spark.properties.{key}", own.pop(key)) for key in [*filter(is_secret, own)]}
    prefix = f"spark.sql.catalog.{config.lake.catalog}."
    given = {f"{prefix}{key}": value for key, value in config.lake.properties.items()}
    hidden = {key for key, value in given.items() if _is_hidden(key, value)}
    fast_start = java_options(spark_jars_dir().parent)
    properties = {
        "spark.app.name": app_name,
        **({"spark.master": master} if master else {}),
        "spark.driver.memory": config.spark.driver_memory,
        **{f"spark.{who}.defaultJavaOptions": fast_start for who in ("driver", "executor") if fast_start},
        "spark.sql.extensions": _EXTENSIONS,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(config.spark.shuffle_partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        **KEPT_CLASSES,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.python.sql.dataFrameDebugging.enabled": "false",  # else each call for a column asks the JVM thrice more
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.redaction.regex": f"(?i){SECRET_WORDS}|access[.]?key",  # Spark's own lets credentials be seen
        **_addresses(config, submitted),
        "spark.hadoop.fs.permissions.umask-mode": "077",  # Hadoop sets modes by itself, whatever the process's umask
        "spark.log.level": "ERROR",
        **{f"spark.executorEnv.{name}": os.environ[name] for name in (blas.VARIABLE, *PLACE) if os.environ.get(name)},
        **{key: value for key, value in catalog.items() if key not in hidden},
        **({} if submitted else jar_properties(config)),
        **({"spark.archives": ",".join(config.spark.archives)} if config.spark.archives and not submitted else {}),
        **own,
    }
    # What is known before the JVM starts stands on its command line, for everyone on the machine to read.
    SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll([*properties.items()]))
    builder = SparkSession.builder
    for key, value in (properties | secrets).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    for key in hidden:
        session.conf.set(key, catalog[key])
    _require_iceberg(session, config)
    if not submitted:  # else --py-files brought them
        for file in config.spark.py_files:
            session.sparkContext.addPyFile(file)
    return session


def _quieten() -> None:
    """Keep PySpark from printing the trace of every error of SQL, those that are expected and caught among them."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)


def _master(config: Config, submitted: bool) -> str | None:
    """Return spark.master; of local ones with as many attempts a task as clusters give, where the lake is in a store.

    Not every read from a store is tried again by the client that makes it (docs/adr/0034).
    """
    master = config.spark.master or (None if submitted else "local[*]")
    if not is_remote(config.lake.root):
        return master
    if master is None:
        SparkContext._ensure_initialized()  # spark-submit's JVM, which knows what was said to it
        master = SparkConf().get("spark.master")
    return re.sub(r"^local\[([^],]+)\]$", rf"local[\1,{_TASK_ATTEMPTS}]", master or "local[*]")


def _addresses(config: Config, submitted: bool) -> dict[str, str]:
    """Return where the driver listens: on a cluster everywhere, else on this machine alone."""
    local = not submitted and (config.spark.master or "local").startswith("local")
    if not local:
        return {"spark.driver.bindAddress": "0.0.0.0"}
    return {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}


def _is_hidden(key: str, value: str) -> bool:
    """Whether a property of the catalog is for nobody's eyes; what comes from the environment may be."""
    return "${" in value or is_secret(key)


def _require_files(key: str, files: Iterable[str]) -> None:
    """Raise ConfigError where a local one is missing: Spark would say so in a Java trace, after it has started."""
    for file in files:
        path = file.partition("#")[0]
        if "://" not in path and not Path(path).exists():
            raise ConfigError(
                f"{key}: expected '{path}' (relative to {Path.cwd()}), found nothing; run `make package`, or set {key}"
            )


def _require_iceberg(session: SparkSession, config: Config) -> None:
    """Raise LakeError where Spark lacks Iceberg's classes, or those that reach the lake's store."""
    jvm: Any = session.sparkContext._jvm
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        for name in ("org.apache.iceberg.spark.SparkCatalog", config.lake.properties.get("io-impl")):
            if name:
                jvm.java.lang.Class.forName(name, True, loader).getMethods()  # which load what it is made of
        if is_remote(config.lake.root):
            root = jvm.org.apache.hadoop.fs.Path(lake_root(config))
            configuration = session.sparkContext._jsc.hadoopConfiguration()
            jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(root.toUri().getScheme(), configuration).getMethods()
    except Py4JJavaError as error:
        raise LakeError(
            f"Spark: expected the classes of spark.packages on its class path, found no {reason(error)}. Run "
            "`ganrec install-jars` once for this Spark, with the same --config, or add "
            f"`--packages {','.join(config.spark.packages)}` to spark-submit."
        ) from None


def spark_jars_dir() -> Path:
    """Return the folder of jars that every process of this Spark installation loads."""
    home = os.environ.get("SPARK_HOME")
    return (Path(home) if home else Path(pyspark.__file__).parent) / "jars"


def _is_installed(package: str) -> bool:
    _, artifact, version = package.split(":")
    return any(spark_jars_dir().glob(f"*{artifact}-{version}.jar"))


def install_jars(config: Config) -> list[Path]:
    """Copy Iceberg and the JDBC driver into Spark's own jars folder; return the paths, old ones included.

    spark-submit starts the JVM before our code runs, so jars named in code would come too late. Takes
    spark.jars where set (an air-gapped site), else resolves spark.packages through Spark's own Ivy.
    """
    folder = spark_jars_dir()
    local = [Path(jar) for jar in config.spark.jars]
    missing = [package for package in config.spark.packages if not _is_installed(package)]
    if missing and not local:
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        how = {key: value for key, value in config.spark.properties.items() if key.startswith("spark.jars.")}
        for key, value in {**how, "spark.jars.packages": ",".join(missing)}.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        jars = str(session.sparkContext.getConf().get("spark.jars", "")).split(",")
        session.stop()
        wanted = tuple(package.split(":")[1] for package in missing)
        local = [Path(jar.removeprefix("file://")) for jar in jars if any(name in jar for name in wanted)]
    for jar in local:
        require_known(jar)
    for package, old in _installed(folder, config):
        if package in missing:
            old.unlink()  # two versions on one class path fail in ways that name neither
    for jar in local:
        # Copied aside and renamed: a half-written jar breaks every later start of this Spark.
        partial = folder / f".{jar.name}.partial"
        shutil.copyfile(jar, partial)
        partial.rename(folder / jar.name)
    return sorted(path for _, path in _installed(folder, config))


def require_known(jar: Path) -> None:
    """Raise LakeError where a jar of a package that we pin is not, byte for byte, the one that we pinned."""
    expected = next((digest for name, digest in _SHA256.items() if jar.name.endswith(f"{name}.jar")), None)
    if expected is None:
        return  # a package or version of the user's own
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != expected:
        raise LakeError(
            f"jar '{jar}': expected SHA-256 {expected}, found {found}; it is not what was published under this name: "
            "delete it and ask where it came from"
        )


def _installed(folder: Path, config: Config) -> list[tuple[str, Path]]:
    """Return (package, jar) of every version of every package that is installed."""
    packages = config.spark.packages
    return [(name, jar) for name in packages for jar in folder.glob(f"*{name.split(':')[1]}-[0-9]*.jar")]


def spark_sql_command(config: Config, more: str = "") -> str:
    """Return the shell command that opens spark-sql on the lake's tables, with `more` at its end."""
    properties = {"spark.sql.extensions": _EXTENSIONS, "spark.sql.defaultCatalog": config.lake.catalog}
    properties |= {"spark.sql.catalogImplementation": "in-memory"} | jar_properties(config)
    prefix = f"spark.sql.catalog.{config.lake.catalog}"
    properties |= {prefix: "org.apache.iceberg.spark.SparkCatalog", **_fresh(prefix)}
    for key, value in config.lake.properties.items():  # ${VARIABLE} stays, for the shell to fill in
        properties[f"{prefix}.{key}"] = value.replace("{root}", lake_root(config))
    # What its file systems and jars are found by; the rest is about work that spark-sql does not do.
    more_of_ours = {key: value for key, value in config.spark.properties.items() if key.startswith(_FINDS)}
    properties |= more_of_ours
    hidden = {key for key, value in properties.items() if _is_hidden(key, value)}
    options = [f"--conf {_for_shell(f'{key}={value}')}" for key, value in properties.items() if key not in hidden]
    binary = shlex.quote(str(Path(pyspark.__file__).parent / "bin" / "spark-sql"))
    words = f"{binary} {' '.join(options)} --database {config.lake.namespace}"
    if not hidden:
        return words + more
    # Through a file that only its owner reads, gone at the end: command lines are for everyone to see.
    lines = " ".join(_for_shell(f"{key} {properties[key]}") for key in hidden)
    return (
        f"( f=$(mktemp) && trap 'rm -f \"$f\"' EXIT && printf '%s\\n' {lines} > \"$f\" && "
        f'{words} --properties-file "$f"{more} )'
    )


def _for_shell(text: str) -> str:
    """Return the text in double quotes, in which the shell fills in ${VARIABLE} and nothing else."""
    return '"' + re.sub(r'([\\"`]|\$(?!\{\w+\}))', r"\\\1", text) + '"'
