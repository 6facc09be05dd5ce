#!/bin/sh
# SPDX-License-Identifier: MIT
# open_mpi.sh MODE: open_mpi as two processes, with the worker's sleep between rounds not counted as use.
here=$(dirname "$0")
command -v mpirun > /dev/null || { echo "missing openmpi-bin is not installed"; exit 0; }
[ -x "$here/open_mpi" ] || { echo "missing libopenmpi-dev was not there when this was built"; exit 0; }
[ "$(id -u)" != 0 ] || set -- --allow-run-as-root "$here/open_mpi" "$1"
[ "$1" = --allow-run-as-root ] || set -- "$here/open_mpi" "$1"
# OMPI_MCA_btl: shared memory only; no network is looked for
OMPI_MCA_btl=self,vader exec mpirun -n 2 --bind-to none "$@" 2> /dev/null
