"""Jobs: many rows, or one slow answer, that a service works on while its caller does something else.

from triptych_client.jobs import Jobs

with Jobs("127.0.0.1:9003") as jobs:
    job = jobs.submit(document, files={"sales": "sales.parquet"})
    for part in jobs.follow(job):
        print(part.table)
"""

from triptych_client.jobs.client import Jobs
from triptych_client.jobs.entities import JobStatus, PartAnswers
from triptych_client.jobs.errors import JobFailed

__all__ = ["JobFailed", "JobStatus", "Jobs", "PartAnswers"]
