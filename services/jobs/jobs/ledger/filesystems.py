"""The file system of a path, by the kernel's table of mounts."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

# Their locks hold between the processes of one machine at best, and SQLite's WAL needs memory that all processes share.
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre", "beegfs"}
    | {"gpfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"}
)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Type of the network file system that holds a path; '' for a local one, and where the kernel has no table."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    best, found = -1, ""
    path = path.resolve()
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if (path == point or point in path.parents) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, found = len(point.parts), after.split()[0]
    return found if found in NETWORK else ""
