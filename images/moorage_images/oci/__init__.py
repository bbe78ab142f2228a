"""From a built environment to an image: deterministic layers, appended to a base that lies in a registry already.

An image is base + layers, not a Dockerfile (DESIGN, decision 14). A pod that has nothing to steal builds the environment; then
`push` here, the trusted step, reads the finished tree and runs nothing of it. No root, no daemon.

- `tree`: a hostile tree, entry by entry; `links`: where its links lead; `split`: which package lies in which layer; `layers`: the tars
- `reference`, `image`: the words of the OCI specifications; `credentials`, `connection`, `registry`: the distribution API
- `append`: base + layers -> image, and the same layers on a new base; `push`: the program; `collect`: which images may go
"""
