module initpipeline/tests/cluster/pause

go 1.26
