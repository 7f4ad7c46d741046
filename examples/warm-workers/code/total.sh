work() {
    total=0
    while read -r number; do
        total=$((total + number))
    done <"$in"
    echo "$total" >"$out/${in##*/}"
}

. ./paddock_warm.sh
