#!/bin/sh
# What has become of a job of PBS, whose qstat -x tells of jobs that have ended too: prints running, success or
# failed. (On SGE: qstat -j while it is in the queue, then exit_status of qacct -j.)
said=$(qstat -x -f "$1" 2>&1)
case $said in
*"job_state = F"* | *"Unknown Job"*) ;;
*)  # it waits or runs, or the server does not answer
    echo running
    exit
    ;;
esac
case $said in
*"Exit_status = 0"*) echo success ;;
*) echo failed ;;
esac
