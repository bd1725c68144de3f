"""Lower bounds: each does a part of a work that every contender has to do."""

import subprocess

from benchmarks.job import Job, Outcome


def import_datasets(job: Job) -> Outcome:
    """Only import `datasets`."""
    import datasets  # noqa: F401

    return {}


def copy(job: Job) -> Outcome:
    """Copy the picture of every row to one file."""
    origin = job.corpus / "pictures" / "visual_news" / "origin"
    names = (job.corpus / "pictures" / "rows.txt").read_text(encoding="ascii").splitlines()
    with open(job.out / "copy", "wb", buffering=0) as out:
        for name in names:
            with open(origin / name, "rb", buffering=0) as file:
                out.write(file.read())
    return {"rows": len(names)}


def tar_list(job: Job) -> Outcome:
    """List the names in a tar, without positions."""
    with open(job.out / "names", "wb") as names:
        subprocess.run(["tar", "-tf", job.corpus / "sparse.tar"], stdout=names, check=True)
    return {}
