"""What slurm.conf says of a cluster that is this one machine."""

import getpass
import socket
from pathlib import Path

NODES = ("127.0.0.1", "127.0.0.2")  # a name has to resolve: MASTER_ADDR is made of it
CPUS, MEMORY = 4, 32000  # of a node, whatever the machine has; MB

DAEMONS = """\
ClusterName=hark
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a job that was queued again waits for cred_expire: 120 s unless told, 5 at least
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
"""

JOBS = """\
# no cgroups and no database: nothing that an ordinary user could not start
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
# submitit's files are named by job id: no cluster counts where another has counted
FirstJobId={first}
MaxArraySize=1001
MinJobAge=600
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=20
MessageTimeout=10
BatchStartTimeout=20
"""

PARTITIONS = """\
PartitionName=high Nodes={nodes} PriorityTier=10 PreemptMode=OFF Default=YES DefaultTime=10 MaxTime=INFINITE
PartitionName=low Nodes={nodes} PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 DefaultTime=10 MaxTime=INFINITE
"""


def text(folder: Path, port: int, first: int) -> str:
    """Everything of the cluster is in `folder`; it listens on `port` and as many behind it as there are nodes."""
    host = socket.gethostname().split(".")[0]
    facts = {"folder": folder, "port": port, "host": host, "user": getpass.getuser(), "first": first}
    nodes = [
        f"NodeName={name} NodeHostname={host} NodeAddr={name} Port={port + 1 + i} "
        f"CPUs={CPUS} RealMemory={MEMORY} State=UNKNOWN\n"
        for i, name in enumerate(NODES)
    ]
    return (DAEMONS + JOBS).format(**facts) + "".join(nodes) + PARTITIONS.format(nodes=",".join(NODES))
