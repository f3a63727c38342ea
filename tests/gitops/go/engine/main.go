// Engine evaluates objects with Argo CD's Lua engine and kstatus. It reads one request per line and
// writes one response per line.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// request selects an evaluation and the object. Overrides are those of argocd-cm, by "group/Kind".
// Action is the name of the action to run.
type request struct {
	Ask       string                               `json:"ask"`
	Object    *unstructured.Unstructured           `json:"object"`
	Overrides map[string]v1alpha1.ResourceOverride `json:"overrides"`
	Action    string                               `json:"action"`
}

type answer struct {
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	replies := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		result, err := reply(line)
		response := answer{Result: result}
		if err != nil {
			response.Error = err.Error()
		}
		if err := replies.Encode(response); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func reply(line []byte) (any, error) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	if asked.Object == nil {
		return nil, errors.New("no object")
	}
	// Customizations of argocd-cm run without Lua's standard libraries.
	vm := lua.VM{ResourceOverrides: asked.Overrides}
	switch asked.Ask {
	case "kstatus":
		return status.Compute(asked.Object)
	case "health":
		return lua.ResourceHealthOverrides(asked.Overrides).GetResourceHealth(asked.Object)
	case "actions":
		scripts, err := vm.GetResourceActionDiscovery(asked.Object)
		if err != nil {
			return nil, err
		}
		return vm.ExecuteResourceActionDiscovery(asked.Object, scripts)
	case "act":
		action, err := vm.GetResourceAction(asked.Object, asked.Action)
		if err != nil {
			return nil, err
		}
		return vm.ExecuteResourceAction(asked.Object, action.ActionLua, nil)
	}
	return nil, fmt.Errorf("unknown evaluation %q", asked.Ask)
}
