-- A run that is requested while suspended would wait for the resumption, which is a run anyway.
local suspended = obj.spec.suspend == true
return {
  ["rerun"] = {["disabled"] = suspended, ["iconClass"] = "fa fa-fw fa-redo"},
  ["suspend"] = {["disabled"] = suspended, ["iconClass"] = "fa fa-fw fa-pause"},
  ["resume"] = {["disabled"] = not suspended, ["iconClass"] = "fa fa-fw fa-play"},
}
