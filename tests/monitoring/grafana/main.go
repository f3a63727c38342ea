// Reads a dashboard with the types of Grafana's schema. Fails if it has a field that they do not
// have, if it lacks a required field, or if a value is not valid.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile(os.Args[1])
	read := dashboard.Dashboard{}
	if err == nil {
		err = read.UnmarshalJSONStrict(raw)
	}
	// The error is an empty list if there is no problem.
	if err == nil || err.Error() == "" {
		err = read.Validate()
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
