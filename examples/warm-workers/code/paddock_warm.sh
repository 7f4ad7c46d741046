# Helper for warm commands in POSIX shell: define work(), then source this file. $in is the path of the datum's
# first input, $out the directory for results. A status other than 0 fails this datum only.
# Paths with a double quote or a backslash in them need a real JSON parser; such a datum fails by name.

printf '{"ready":true}\n' >&"$PADDOCK_WARM_OUT"
while IFS= read -r line <&"$PADDOCK_WARM_IN"; do
    id=${line#*'"id":"'} in=${line#*'"in":"'} out=${line#*'"out":"'}
    id=${id%%'"'*} in=${in%%'"'*} out=${out%%'"'*}
    case $in in
    *\\*) error="this shell helper can not read the path $(printf %s "$in" | tr -d '\\')" ;;
    *) if work; then error=; else error="work ended with status $?"; fi ;;
    esac
    if [ -z "$error" ]; then
        printf '{"id":"%s","ok":true}\n' "$id" >&"$PADDOCK_WARM_OUT"
    else
        printf '{"id":"%s","error":"%s"}\n' "$id" "$error" >&"$PADDOCK_WARM_OUT"
    fi
done
