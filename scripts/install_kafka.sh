#!/bin/sh
# A broker of Kafka for the tests, and the source that Spark reads it with: jars of Maven Central, by the Ivy that is
# part of Spark. The tests start and stop a broker of their own.   install_kafka.sh FOLDER PYTHON
set -eu
folder=$1 python=$2 log=$1/install.log
mkdir -p "$folder/broker"
jars=$("$python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent / "jars")')
if ! { java -jar "$jars"/ivy-*.jar -cache "$folder/cache" -dependency org.apache.kafka kafka_2.13 4.1.1 -confs default \
    -retrieve "$folder/broker/[artifact]-[revision].[ext]" && "$python" -c '
from ganrec_spark.config.load import load_config
from ganrec_spark.feedback.kafka import with_kafka
from ganrec_spark.spark.session import build_session
build_session(with_kafka(load_config(overrides=["spark.master=local[1]"], environ={})), makes_lake=False).stop()
'; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "environment: could not get Kafka's jars; is there a way to Maven?" >&2
    exit 1
fi
rm -rf "$folder/cache"
