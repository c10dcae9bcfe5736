// go run authorizer.go
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
)

type question struct {
	Command string
	Args    struct {
		Channel string
	}
	Connection struct {
		Query map[string][]string
	}
}

func authorize(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token := append(q.Connection.Query["token"], "")[0]
	user, known := map[string]int{"abc": 42}[token]
	channel := q.Args.Channel
	if !known || q.Command != "connect" && channel != "hello" && channel != fmt.Sprintf("user:%d", user) {
		w.WriteHeader(http.StatusForbidden)
	}
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", http.HandlerFunc(authorize)))
}
