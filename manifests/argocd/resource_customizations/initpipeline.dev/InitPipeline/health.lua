-- The first condition that applies decides. The message is the operator's reason and message.
local function because(status, condition)
  return {status = status, message = condition.reason .. ": " .. condition.message}
end

local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not reconciled this generation yet"}
end

local holds = {}
local ready
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    holds[condition.type] = condition
  end
  if condition.type == "Ready" then
    ready = condition
  end
end

if holds.Suspended then
  return {status = "Suspended", message = holds.Suspended.message}
end
if holds.Stalled then
  return because("Degraded", holds.Stalled)
end
if holds.Ready then
  return because("Healthy", holds.Ready)
end
return because("Progressing", holds.Reconciling or ready)
