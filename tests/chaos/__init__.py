"""A campaign of faults against a real `EmbeddedServer`, under a load of the SDK that keeps its own time.

make chaos                 # 30 minutes; the table goes to build/chaos/
make chaos CHAOS="--minutes 5 --seed 7"
"""
