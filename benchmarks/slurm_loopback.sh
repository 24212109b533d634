#!/bin/bash
# Start a single-machine SLURM cluster, to test sweeps and job scripts. Debian, as root: apt-get install slurm-wlm munge
# Then: python train.py -m hydra/launcher=submitit_slurm hydra.launcher.cpus_per_task=1 hydra.launcher.mem_gb=null seed=0,1
set -euo pipefail
name=$(hostname -s)
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/munge
chown munge: /run/munge
[ -e /etc/slurm/slurm.conf ] && { echo "/etc/slurm/slurm.conf already exists: SLURM is already configured here"; exit 1; }
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=loopback
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=$name Default=YES
CONF
runuser -u munge -- munged
slurmctld
slurmd
sleep 3
sinfo
