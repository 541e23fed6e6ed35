# A grid of rows on any executor: data -> flows -> searches -> rows.
#
# Every stage is made in parts, one job each.  A part that failed is tried again by the next run, and makes
# only what is missing; `ddslib collect` says which rows are there.  All that rows depend on and that may change is an
# input of the first stage, from which all others follow: the grid, the profile with what it extends, the library.

from pathlib import Path

from ddslib.config import profile_files

GRID = config["grid"]
WORK = config["work"]
PARTS = range(1, int(config["parts"]) + 1)
ARGUMENTS = f"{GRID} --profile {config['profile']} --work {WORK} --maps-root '{config['maps_root'] or ''}'"
DONE = f"{WORK}/done/sweep-{Path(GRID).stem}"


def after(*stage):
    return expand(f"{DONE}/{{stage}}-{{part}}-of-{len(PARTS)}", stage=stage, part=PARTS)


rule table:
    input:
        after("rows"),


rule data:
    input:
        GRID,
        [*map(str, profile_files(config["profile"]))],
        sorted(map(str, Path("ddslib").rglob("*.py"))),
    output:
        touch(f"{DONE}/data"),
    shell:
        "ddslib sweep {ARGUMENTS} --stage data"


rule flows:
    input:
        rules.data.output,
    output:
        touch(f"{DONE}/flows-{{part}}-of-{len(PARTS)}"),
    threads: int(config["threads"])
    shell:
        "ddslib sweep {ARGUMENTS} --stage flows --part {wildcards.part}/{config[parts]}"


rule searches:
    input:
        after("flows"),
    output:
        touch(f"{DONE}/searches-{{part}}-of-{len(PARTS)}"),
    threads: int(config["threads"])
    shell:
        "ddslib sweep {ARGUMENTS} --stage searches --part {wildcards.part}/{config[parts]}"


rule rows:
    input:
        after("searches"),
    output:
        touch(f"{DONE}/rows-{{part}}-of-{len(PARTS)}"),
    threads: int(config["threads"])
    shell:
        "ddslib sweep {ARGUMENTS} --stage rows --part {wildcards.part}/{config[parts]}"
