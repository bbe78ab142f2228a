# In the build of an image: the environment `control` or `server` at its place, from its lock and our own wheels.
set -eu
uv=/context/uv place=/opt/moorage/$1
. /lent/variables
export UV_LINK_MODE=copy
# An image's files have no time of their own: bytecode that compares times would never be taken, and every start compile anew.
export PYC_INVALIDATION_MODE=UNCHECKED_HASH
$uv venv --quiet --no-project --python /usr/bin/python3 "$place"
$uv pip install --quiet --compile-bytecode --no-deps --require-hashes --python "$place/bin/python" -r "/context/$1.txt"
$uv pip install --quiet --compile-bytecode --no-deps --python "$place/bin/python" "/context/own/$1"/*.whl
rm -f "$place/.lock"
